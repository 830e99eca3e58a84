"""The labeling service: people's answers become labels that one can trust."""
