"""The checks of `heareval validate`."""
