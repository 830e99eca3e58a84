"""A real gateway in front of the real registry and ingestion."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from running import Keys, Service

sys.path.insert(0, str(Path(__file__).parent))

from browser import LabelPage, headless
from door import ADMIN_TOKEN, Gateway
from studio import Studio


@pytest.fixture(scope="session")
def admin_token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gateway") / "admin-token"
    path.write_text(ADMIN_TOKEN + "\n")
    return path


@pytest.fixture(scope="session")
def gateway(
    keys: Keys, postgres: object, registry: Service, ingestion: Service, admin_token_file: Path
) -> Iterator[Gateway]:
    service = Gateway(
        keys,
        database_url=postgres.fresh_database(),  # type: ignore[attr-defined]
        signing_key_file=keys.pem,
        bootstrap_token_file=admin_token_file,
        registry=registry.address,
        ingestion=ingestion.address,
        training="127.0.0.1:1",
        rollout="127.0.0.1:1",
        api_token_cache_s=0,
        max_body_bytes=1 << 20,
    )
    service.migrate().start()
    yield service
    service.stop()


@pytest.fixture
def rest(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client that sends the administrator's API token."""
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def studio(keys: Keys, postgres: object, ingestion: Service, admin_token_file: Path) -> Iterator[Studio]:
    """A labeling service of our own, which a test may kill, behind a gateway whose JWTs are short."""
    labeling_database = postgres.fresh_database()  # type: ignore[attr-defined]
    labeling = Service(
        "slipway_labeling.main",
        keys,
        database_url=labeling_database,
        ingestion=ingestion.address,
        token_file=keys.service_file("labeling"),
        sweep_interval_s=0.2,
    )
    door = Gateway(
        keys,
        database_url=postgres.fresh_database(),  # type: ignore[attr-defined]
        signing_key_file=keys.pem,
        bootstrap_token_file=admin_token_file,
        ingestion=ingestion.address,
        labeling=labeling.address,
        api_token_cache_s=0,
        access_token_s=60,
    )
    labeling.migrate().start()
    door.migrate().start()
    yield Studio(
        keys=keys,
        gateway=door,
        labeling=labeling,
        labeling_database=labeling_database,
        ingestion=ingestion,
    )
    door.stop()
    labeling.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A browser; its driver keeps an event loop running in this thread, so it ends with the module."""
    with headless() as running:
        yield running


@pytest.fixture
def tab(browser: object, studio: Studio) -> Iterator[Callable[..., LabelPage]]:
    """A function that opens the labelling page in a tab of its own; all are closed, and had no fault."""
    opened: list[LabelPage] = []

    def open_tab(**options: object) -> LabelPage:
        opened.append(LabelPage(browser, studio.gateway.url, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_tab
    for page in opened:
        page.close()
