"""Songs in stems, what can be asked of them, and pairs of spectrogram images made from both."""
