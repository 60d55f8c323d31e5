"""The gateway's HTTP port: operations, HTTP fallbacks and the server API."""

from collections.abc import Sequence
from typing import Any

import fastapi
from prometheus_client import CollectorRegistry

from chatmesh.gateway.adapters import server_api
from chatmesh.runtime import http
from chatmesh.runtime.health import Health


def application(
    health: Health,
    registry: CollectorRegistry,
    *,
    version: str,
    routers: Sequence[fastapi.APIRouter] = (),
) -> fastapi.FastAPI:
    app = fastapi.FastAPI(title="chatmesh gateway", version=version)
    app.include_router(http.operations(health, registry))
    for router in routers:
        app.include_router(router)
    _document(app)
    return app


def _document(app: fastapi.FastAPI) -> None:
    """Put the shapes that routes refer to into the OpenAPI document."""
    inner = app.openapi

    def openapi() -> dict[str, Any]:
        document = inner()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(server_api.schemas())
        components["securitySchemes"] = dict(server_api.SECURITY)
        return document

    app.openapi = openapi
