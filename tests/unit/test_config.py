from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batchmill.config import Role, Settings, load
from batchmill.errors import ConfigError, Problem


def problems_of(
    flags: dict[str, Any] | None = None, environ: dict[str, str] | None = None
) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, environ or {})
    return caught.value.problems


def toml(folder: Path, text: str) -> dict[str, Any]:
    file = folder / "settings.toml"
    file.write_text(text)
    return {"config": file}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_any_setting_a_single_machine_works() -> None:
    settings = load({}, {})
    assert (settings.host, settings.port) == ("127.0.0.1", 8470)
    assert settings.data == Path("batchmill-data")
    assert settings.role is Role.ALL
    assert settings.engines == ()
    assert settings.on_loopback


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    flags = toml(tmp_path, 'port = 1\nhost = "::1"\ndata = "from-file"\n')
    environ = {"BATCHMILL_PORT": "2", "BATCHMILL_HOST": "localhost"}
    settings = load(flags | {"port": 3}, environ)
    assert (settings.port, settings.host, settings.data) == (3, "localhost", Path("from-file"))


def test_a_flag_that_was_not_given_sets_nothing() -> None:
    assert load({"port": None, "engines": None}, {"BATCHMILL_PORT": "9"}).port == 9


def test_the_file_is_named_by_the_environment_or_found_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("port = 5")
    assert load({}, {"BATCHMILL_CONFIG": str(tmp_path / "other.toml")}).port == 5
    (tmp_path / "batchmill.toml").write_text("port = 6")
    assert load({}, {}).port == 6


def test_every_problem_is_reported_with_its_source(tmp_path: Path) -> None:
    flags = toml(tmp_path, 'beat = "often"\nmax_line_size = "huge"\n[[engines]]\nurl = "ftp://x"')
    found = problems_of(flags | {"port": 70_000}, {"BATCHMILL_ROLE": "boss"})
    assert {(problem.field, problem.source) for problem in found} == {
        ("port", "--port"),
        ("role", "BATCHMILL_ROLE"),
        ("beat", str(flags["config"])),
        ("max_line_size", str(flags["config"])),
        ("engines.1.url", str(flags["config"])),
    }


@pytest.mark.parametrize(
    ("text", "field", "nearest"),
    [
        ("prot = 1", "prot", "port"),
        ('[model]\na = "b"', "model", "models"),
        ('[[engines]]\nurl = "sim"\ntimeuot = "5s"', "engines.1.timeuot", "timeout"),
        ("[tenants.a]\nmax_pending_line = 5", "tenants.a.max_pending_line", "max_pending_lines"),
    ],
)
def test_an_unknown_key_is_a_problem_that_names_the_nearest(
    tmp_path: Path, text: str, field: str, nearest: str
) -> None:
    [problem] = problems_of(toml(tmp_path, text))
    assert problem.field == field
    assert problem.message == f"is no setting; did you mean {nearest}?"


def test_an_unknown_variable_is_a_problem() -> None:
    [problem] = problems_of({}, {"BATCHMILL_DATTA": "x"})
    assert problem == Problem(
        "BATCHMILL_DATTA", "is no setting; did you mean BATCHMILL_DATA?", "environment"
    )


def test_what_kubernetes_sets_for_a_service_of_our_name_is_passed_over() -> None:
    environ = {
        "BATCHMILL_PORT": "tcp://10.0.0.1:8470",
        "BATCHMILL_PORT_8470_TCP_ADDR": "10.0.0.1",
        "BATCHMILL_SERVICE_HOST": "10.0.0.1",
        "BATCHMILL_SERVICE_PORT_HTTP": "8470",
    }
    assert load({}, environ).port == 8470


@pytest.mark.parametrize(
    ("content", "says"),
    [("port = = 1", "not valid TOML"), (None, "no such file"), (b"\xff\xfe", "not valid TOML")],
)
def test_a_file_that_cannot_be_used_is_one_problem(
    tmp_path: Path, content: str | bytes | None, says: str
) -> None:
    file = tmp_path / "bad.toml"
    if isinstance(content, str):
        file.write_text(content)
    elif content is not None:
        file.write_bytes(content)
    [problem] = problems_of({"config": file})
    assert says in problem.message
    assert problem.source == str(file)


def test_engines_stand_in_tables(tmp_path: Path) -> None:
    text = """
        [models]
        "mistral-small-latest" = "Qwen/Qwen3-8B"
        "*" = "Qwen/Qwen3-8B"
        [[engines]]
        name = "gpu1"
        url = "http://gpu1:8000/v1/"
        kind = "vllm"
        concurrency = 8
        timeout = "2m"
        key = "secret-one"
        [[engines]]
        url = "https://api.example.com/v1"
    """
    settings = load(toml(tmp_path, text), {"BATCHMILL_ENGINE_KEY": "secret-two"})
    assert settings.models == {"mistral-small-latest": "Qwen/Qwen3-8B", "*": "Qwen/Qwen3-8B"}
    gpu, other = (engine.at(engine.url, settings.engine_key) for engine in settings.engines)
    assert (gpu.name, gpu.url, gpu.kind) == ("gpu1", "http://gpu1:8000/v1", "vllm")
    assert (gpu.concurrency, gpu.timeout_seconds, gpu.key) == (8, 120.0, "secret-one")
    assert (other.name, other.adaptive, other.key) == ("api.example.com", True, "secret-two")


@pytest.mark.parametrize(
    ("spec", "name", "embedded", "argument"),
    [
        ("http://gpu1:8000/v1", "gpu1:8000", None, ""),
        ("https://[::1]:9/v1", "[::1]:9", None, ""),
        ("local", "local", "local", ""),
        ("sim", "sim", "sim", ""),
        ("sim:latency=50ms,batch=64", "sim", "sim", "latency=50ms,batch=64"),
    ],
)
def test_an_engine_spec_says_which_engine(
    spec: str, name: str, embedded: str | None, argument: str
) -> None:
    [engine] = load({"engines": [spec]}, {}).engines
    assert (engine.name, engine.embedded, engine.argument) == (name, embedded, argument)


def test_a_model_file_is_named_after_local(tmp_path: Path) -> None:
    model = tmp_path / "a:b.gguf"
    model.write_bytes(b"GGUF")
    [engine] = load({"engines": [f"local:{model}"]}, {}).engines
    assert engine.argument == str(model)
    [problem] = problems_of({"engines": [f"local:{tmp_path}/none.gguf"]})
    assert "cannot read the model" in problem.message
    model.write_bytes(b"not a model")
    [problem] = problems_of({"engines": [f"local:{model}"]})
    assert "is not a GGUF file" in problem.message


def test_engine_specs_of_the_environment_are_parted_by_spaces() -> None:
    settings = load({}, {"BATCHMILL_ENGINE": "http://a/v1 sim:latency=1ms,batch=2"})
    assert [engine.name for engine in settings.engines] == ["a", "sim"]


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "gpu1:8000",
        "ftp://gpu1/v1",
        "http://",
        "http://gpu1:99999/v1",
        "http://gp u1/v1",
        "http://gpu1/v1?key=1",
        "locally",
        "simulator",
        "sim:latency",
        "sim:wrong=1",
        "sim:latency=soon",
    ],
)
def test_what_is_no_engine_is_refused(spec: str) -> None:
    [problem] = problems_of({"engines": [spec]})
    assert (problem.field, problem.source) == ("engines.1.url", "--engine")


def test_two_engines_of_one_name_are_refused() -> None:
    [problem] = problems_of({"engines": ["sim", "sim:latency=1s"]})
    assert "two engines named 'sim'" in problem.message


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    text = '[[engines]]\nurl = "http://a/v1"\nkey = "hush-1"'
    settings = load(toml(tmp_path, text), {"BATCHMILL_ENGINE_KEY": "hush-2"})
    specs = [engine.at(engine.url, settings.engine_key) for engine in settings.engines]
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump_json()} {specs!r}"
    found = problems_of({"engines": ["http://user:hush-3@a/v1"]})
    assert "hush" not in str(found)
    found = problems_of(toml(tmp_path, 'engine_key = ["hush-4"]'))
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("example.com", False),
        ("localhost.example.com", False),
    ],
)
def test_only_loopback_addresses_are_on_loopback(host: str, *, loopback: bool) -> None:
    assert load({"host": host}, {}).on_loopback is loopback


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"port": -1}, "port"),
        ({"beat": "1ms"}, "beat"),
        ({"lease_time": "2s"}, "lease_time"),
        ({"memory_budget": "1kB"}, "memory_budget"),
        ({"max_job_lines": 0}, "max_job_lines"),
        ({"public_url": "batch.example.com"}, "public_url"),
        ({"engines": [{"url": "sim", "concurrency": 0}]}, "engines.1.concurrency"),
        ({"engines": [{"url": "sim", "timeout": 0}]}, "engines.1.timeout"),
        ({"engines": [{"name": "x"}]}, "engines.1.url"),
    ],
)
def test_a_value_that_cannot_work_is_refused(flags: dict[str, Any], field: str) -> None:
    assert [problem.field for problem in problems_of(flags)] == [field]


def test_settings_travel_to_children_as_json() -> None:
    settings = load({"lease_time": "3s", "beat": "200ms", "keep_results": "0"}, {})
    copy = Settings.model_validate(json.loads(settings.model_dump_json()))
    assert copy == settings
    assert copy.beat == timedelta(milliseconds=200)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "schedule",
            "mon-fri 20:00-07:00, at night",
            (
                "'mon-fri 20:00-07:00, at night' should be spans such as \"22:00-06:00\" or "
                "\"mon-fri 20:00-07:00, sat-sun 00:00-24:00\", and 'at night' is none"
            ),
        ),
        (
            "time_zone",
            "Berlin",
            '\'Berlin\' should be an IANA time zone such as "Europe/Berlin" or "UTC"',
        ),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_one_clear_line(
    tmp_path: Path, key: str, value: str, message: str
) -> None:
    flags = toml(tmp_path, f'[[engines]]\nurl = "sim"\n{key} = "{value}"')
    [problem] = problems_of(flags)
    assert problem == Problem(f"engines.1.{key}", message, str(flags["config"]))


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://my.bucket/some/prefix/", "gs://b/p", "az://c"]
)
def test_a_bucket_may_have_a_prefix(url: str) -> None:
    assert load({}, {"BATCHMILL_STORAGE_URL": url}).storage_url == url


@pytest.mark.parametrize(
    "url", ["s3://", "s3://a b", "http://bucket", "s3://b/../c", "s3://b?secret_access_key=hidden"]
)
def test_what_is_no_bucket_is_refused_and_a_key_in_it_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/prefix") as caught:
        load({}, {"BATCHMILL_STORAGE_URL": url})
    assert "hidden" not in str(caught.value)
