"""What touches the network: RabbitMQ, PostgreSQL, HTTP."""
