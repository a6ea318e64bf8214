"""Which experts share a server, and what is said when they cannot."""

import pytest

from experts.errors import ConfigError
from experts.fleet.command import command
from experts.fleet.placement import Residence, place

HERE = ("http://127.0.0.1:8001/v1",)
BASE = Residence("base", "s", "base-model", HERE, weights="/w/base", args=("--enforce-eager",))
CALC = Residence("calc", "s", "calc", HERE, lora="/w/calc")
GEO = Residence("geo", "s", "geo", HERE, lora="/w/geo", env={"A": "1"})


def test_experts_of_one_server_become_one_process() -> None:
    (server,) = place([BASE, CALC, GEO])
    assert (server.name, server.model, server.port) == ("s", "/w/base", 8001)
    assert server.served_as == ("base-model",)
    assert server.adapters == (("calc", "/w/calc"), ("geo", "/w/geo"))
    assert server.args == ("--enforce-eager",)
    assert server.env == {"A": "1"}
    assert server.experts == ("base", "calc", "geo")


def test_the_weights_default_to_the_models_name_and_the_port_to_the_endpoints() -> None:
    (server,) = place([Residence("q", "q", "Qwen/Qwen2.5-7B", ("http://10.0.0.5:8000/v1", "http://localhost:9/v1"))])
    assert (server.model, server.port) == ("Qwen/Qwen2.5-7B", 9)


def test_a_local_endpoint_without_a_port_says_none() -> None:
    urls = ("http://localhost/v1", "http://127.0.0.1:8003/v1")
    (server,) = place([Residence("q", "q", "m", urls)])
    assert server.port == 8003
    with pytest.raises(ConfigError, match=r"expert q: serve\.port: missing"):
        place([Residence("q", "q", "m", urls[:1])])


def test_a_port_that_is_said_wins() -> None:
    (server,) = place([Residence("q", "q", "m", HERE, port=8055)])
    assert server.port == 8055


def test_everything_that_does_not_fit_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        place(
            [
                Residence("a", "one", "m", HERE, weights="/w/1", where="r.yaml:1"),
                Residence("b", "one", "m", HERE, weights="/w/2"),
                Residence("c", "two", "m", HERE, lora="/w/c"),
                Residence("d", "three", "m", ("http://10.0.0.5:8000/v1",)),
                Residence("e", "four", "m", HERE, port=1, env={"A": "1"}, args=("--x",)),
                Residence("f", "four", "m", HERE, port=2, env={"A": "2"}, args=("--y",)),
            ]
        )
    said = caught.value.message
    assert "r.yaml:1: serve.model: experts of server one want different weights: /w/1 (a) and /w/2 (b)" in said
    assert "expert c: serve.model: missing: server two has adapters" in said
    assert "expert d: serve.port: missing, and no endpoint is on this machine" in said
    assert "expert e: serve.port: experts of server four want different ports: 1 (e) and 2 (f)" in said
    assert "expert f: serve.env.A: another expert of server four differs" in said
    assert "expert e: serve.args: e and f say different things" in said


def test_two_servers_on_one_port_are_refused() -> None:
    with pytest.raises(ConfigError, match="servers one and two both want 8001"):
        place([Residence("a", "one", "m", HERE), Residence("b", "two", "n", HERE)])


def test_the_command_names_models_and_adapters_and_keeps_the_last_word_for_the_manifest() -> None:
    (server,) = place([BASE, CALC, GEO])
    argv, env = command(server, "cpu")
    words = " ".join(argv[1:])
    assert words.startswith("-m vllm.entrypoints.openai.api_server --model /w/base --host 127.0.0.1 --port 8001")
    assert "--served-model-name base-model --enable-lora --max-loras 2 --max-lora-rank 16" in words
    assert words.endswith("--lora-modules calc=/w/calc geo=/w/geo --enforce-eager")
    assert env["VLLM_TARGET_DEVICE"] == "cpu"
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["A"] == "1"


def test_a_gpu_server_of_a_hub_model_may_download_it() -> None:
    (server,) = place([Residence("q", "q", "Qwen/Qwen2.5-7B", HERE)])
    argv, env = command(server, "gpu")
    assert "--enable-lora" not in argv
    assert "VLLM_TARGET_DEVICE" not in env
    assert "HF_HUB_OFFLINE" not in env


@pytest.mark.parametrize(("rank", "taken"), [(4, "8"), (16, "16"), (24, "32"), (200, "256")])
def test_the_largest_rank_is_read_from_the_adapter(tmp_path, rank: int, taken: str) -> None:
    (tmp_path / "adapter_config.json").write_text(f'{{"r": {rank}}}')
    (server,) = place([BASE, Residence("x", "s", "x", HERE, lora=str(tmp_path))])
    argv, _ = command(server, "gpu")
    assert argv[argv.index("--max-lora-rank") + 1] == taken
