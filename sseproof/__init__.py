"""sseproof proves or refutes what a Server-Sent Events service promises."""
