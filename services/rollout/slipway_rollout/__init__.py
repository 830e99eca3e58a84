"""The rollout service: endpoints, served versions and their traffic."""
