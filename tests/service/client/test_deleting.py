"""A delete whose answer is lost on the way, against a real server behind a proxy that loses it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batchmill.client import Client, NotFound
from tests.proxy import Proxy
from tests.serving import chat_lines, serving


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with serving(tmp_path_factory.mktemp("deleting") / "data", "--engine", "sim") as serve:
        proxy = Proxy(("127.0.0.1", serve.port))
        yield proxy
        proxy.close()


def test_a_delete_whose_answer_was_lost_is_done(proxy: Proxy) -> None:
    with Client(f"http://127.0.0.1:{proxy.port}") as client:
        job = client.wait(client.submit(chat_lines(1), model="sim"))
        for delete, name in ((client.delete, job.id), (client.delete_file, job.input_files[0])):
            proxy.rules.loses = 1
            delete(name)
            assert proxy.rules.loses == 0
            with pytest.raises(NotFound):
                delete(name)
