"""How messages get onto RabbitMQ and back: topology, and a link that heals by itself."""
