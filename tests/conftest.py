"""What all tests share: hypothesis asks whether something is right, never how fast a busy machine was."""

from hypothesis import HealthCheck, settings

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
