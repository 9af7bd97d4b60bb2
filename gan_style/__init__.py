"""gan_style: GAN-based, content-preserving style transfer."""

__version__ = "0.1.0"
