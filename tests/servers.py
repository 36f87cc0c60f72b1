"""Servers in a thread of the test: an application on a free port, and a served run or model."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def running(app: Any) -> Iterator[str]:
    """An application of starlette on a free port of this machine; gives its address."""
    import uvicorn

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(60)
        listening.close()
        assert not thread.is_alive()


@contextlib.contextmanager
def serving(run_or_model: Path, **settings: Any) -> Iterator[tuple[str, Any]]:
    """What `lapwing serve` answers with; gives the address and the engine."""
    from lapwing.api.serving import make_app

    app, engine = make_app(run_or_model, **settings)
    try:
        with running(app.starlette()) as address:
            yield address, engine
    finally:
        engine.close()
