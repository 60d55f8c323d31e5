"""What touches the network: RabbitMQ and PostgreSQL."""
