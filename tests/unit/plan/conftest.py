"""Properties are judged by what they say, not by the machine's load."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
