"""Spectrogram pictures of music, as Riffusion V1 defines them, and the edit that paints a stem into one."""
