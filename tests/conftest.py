"""What holds for all tests."""

from hypothesis import settings

# A machine may be slow at any moment: how long an example takes says nothing about it.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
