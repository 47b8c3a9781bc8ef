"""Profiles: to which layer a sample belongs, and that samples add up."""

import pytest

from fusemux.bench.profile import Place, layer_of, layers_of, profile_text, self_times


@pytest.mark.parametrize(
    ("file", "layer"),
    [
        ("/home/u/fusemux/graph/cluster/distribute/distribute.py", "cluster/distribute"),
        ("/usr/lib/python3/site-packages/fusemux/bricks/storage/posix/store.py", "storage/posix"),
        ("fusemux/graph/protocol/client.py", "protocol/client"),
        ("/venv/lib/python3.11/site-packages/trio/_core/_run.py", "trio"),
        ("/opt/fusemux/fuse/bridge.py", "fuse/bridge"),
        ("/opt/fusemux/fuse/pyfuse3_binding.py", "fuse/binding"),
        ("/opt/fusemux/fuse/kernel/channel.py", "fuse/binding"),
        ("/opt/fusemux/serve/server.py", "serve"),
        ("/usr/lib/python3.11/random.py", "python and the rest"),
    ],
)
def test_a_file_belongs_to_a_layer(file: str, layer: str) -> None:
    assert layer_of(file) == layer


def test_samples_belong_to_the_function_at_the_top_of_the_stack() -> None:
    stacks = [
        "main (fusemux/serve/run.py:10);writev (graph/cluster/replicate/write.py:5) 30",
        "main (fusemux/serve/run.py:10);writev (graph/cluster/replicate/write.py:9) 12",
        "main (fusemux/serve/run.py:10) 3",
        "not a stack",
    ]
    times = self_times(stacks)
    assert times == {Place("cluster/replicate", "writev"): 42, Place("serve", "main"): 3}


def test_a_cycle_is_divided_among_layers_in_proportion() -> None:
    times = {Place("storage/posix", "writev"): 3.0, Place("storage/posix", "create"): 1.0, Place("trio", "run"): 1.0}
    answer = layers_of(times, 100.0)
    assert answer["layers_us"] == {"storage/posix": 80.0, "trio": 20.0}
    assert answer["functions_us"][0] == ["storage/posix", "writev", 60.0]
    assert "80%" in profile_text(answer | {"top": 1}, 100.0)
