"""The newest RabbitMQ and PostgreSQL in containers, for `TESTS_USE=containers`."""

from collections.abc import Generator
from contextlib import contextmanager

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy
from testcontainers.postgres import PostgresContainer

from chatmesh.local.instances import Instances

RABBITMQ_IMAGE = "rabbitmq:4-management"
POSTGRES_IMAGE = "pgvector/pgvector:pg18"


@contextmanager
def running_containers() -> Generator[Instances]:
    """Removed at the end; testcontainers sees to it even after a crash of ours."""
    rabbitmq = (
        DockerContainer(RABBITMQ_IMAGE)
        .with_exposed_ports(5672, 15672)
        .waiting_for(LogMessageWaitStrategy("Server startup complete"))
    )
    postgres = PostgresContainer(
        POSTGRES_IMAGE, driver=None, dbname="chatmesh"
    ).with_command("-c max_connections=200 -c fsync=off")
    with rabbitmq, postgres:
        host = rabbitmq.get_container_host_ip()
        amqp_port = rabbitmq.get_exposed_port(5672)
        management_port = rabbitmq.get_exposed_port(15672)
        yield Instances(
            amqp_url=f"amqp://guest:guest@{host}:{amqp_port}/",
            management_url=f"http://guest:guest@{host}:{management_port}",
            database_url=postgres.get_connection_url(),
            described=f"containers of {RABBITMQ_IMAGE} and {POSTGRES_IMAGE}",
        )
