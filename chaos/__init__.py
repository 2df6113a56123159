"""The injector: breaks the network, heals it, and records when. It judges nothing."""
