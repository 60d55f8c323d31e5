"""`python -m chatmesh.gateway`: a gateway with the settings of file and variables."""

import os

from chatmesh.gateway.bootstrap import serve
from chatmesh.gateway.settings import GatewaySettings
from chatmesh.runtime import logging, service, settings
from chatmesh.runtime.service import Stopping


async def main(stopping: Stopping) -> int:
    loaded = settings.load(
        GatewaySettings,
        section="gateway",
        path=None,
        environ=os.environ,  # noqa: TID251 - the one place that hands it to settings
    )
    logging.configure("gateway", loaded.log_level, loaded.log_format)
    return await serve(loaded, stopping)


if __name__ == "__main__":
    service.run(main, service="gateway")
