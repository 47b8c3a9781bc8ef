"""Profiles: to which layer a sample belongs, and that samples add up."""

import pytest

from fusemux.bench.profile import Place, layer_of, self_times


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
