"""The app: a page on this machine to stylize photos with."""
