"""The model: its parts, what they make of images and instructions, denoising, windows and the loss."""
