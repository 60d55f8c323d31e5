"""Where something on the way blocks WebSockets, the page finds another way by itself."""

import pytest

from browser.conftest import OpenPage
from chatmesh.local.mesh import Mesh

pytestmark = pytest.mark.timeout(120)

BLOCKED = """
  window.WebSocket = class extends EventTarget {
    static get CLOSED() { return 3; }
    readyState = 0;
    constructor() {
      super();
      setTimeout(() => {
        this.readyState = 3;
        this.onerror?.(new Event("error"));
        this.onclose?.(new CloseEvent("close", { code: 1006 }));
      }, 50);
    }
    send() {}
    close() {}
  };
"""
"""What a page sees when a proxy drops the upgrade."""


async def test_the_page_talks_over_http_where_websockets_are_blocked(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """Two people talk, one of them without WebSockets and through another gateway."""
    here, there = gentle_mesh.gateways
    ada = await open_page(here, "ada", sign_in=False)
    await ada.context.add_init_script(BLOCKED)
    await ada.page.reload()
    streams: list[str] = []
    ada.page.on("request", lambda request: streams.append(request.url))
    await ada.sign_in()
    await ada.has_loaded()
    bob = await open_page(there, "bob")

    await ada.say("over http")
    await bob.sees("over http")
    await bob.say("and back")
    await ada.sees("and back")

    assert any(url.endswith("/connection/http_stream") for url in streams)
    assert any(url.endswith("/emulation") for url in streams)
