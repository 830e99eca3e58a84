"""The REST door. It holds tokens and users, and no business logic."""
