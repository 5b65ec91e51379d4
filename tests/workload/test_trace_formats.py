import json
import time
from pathlib import Path

import numpy as np
import pytest

from clustersim.errors import InputError
from clustersim.workload.traces import FORMATS, read_trace

REAL = Path(__file__).parents[3] / "shared" / "traces"
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951693,396,109
2023-11-16 18:15:51.2224670,879,55"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
2024-05-10 00:00:01+00:00,76,15
"""
BURST = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,0,1087,Conversation log
118,GPT-4,417,276,693,API log
"""
BURST_SESSIONS = """\
Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5.0,a,1.5,ChatGPT,472,18,490,Conversation log
45.5,b,1.5,ChatGPT,1087,10,1097,Conversation log
118,a,1.5,GPT-4,417,276,693,API log
"""
PLAIN = "arrival_s,input_tokens,output_tokens,thinking_tokens\n1.5,10,100,90\n2.5,20,200,0\n"
MOONCAKE = """{"timestamp": 1000, "input_length": 1258, "output_length": 500, "hash_ids": [0, 1, 2]}
{"timestamp": 1250, "input_length": 1022, "output_length": 490, "hash_ids": [0, 14]}

{"timestamp": 4000, "input_length": 512, "output_length": 4}
"""
SHAREGPT = json.dumps([
    {"id": "a", "conversations": [{"from": "human", "value": "x" * 40},
                                  {"from": "gpt", "value": "<think>" + "y" * 65 + "</think>" + "z" * 80},
                                  {"from": "human", "value": "more"}]},
    {"id": "b", "conversations": [{"from": "human", "value": "alone"}]},
    {"id": "c", "conversations": [{"from": "human", "value": "hi", "tokens": 7},
                                  {"from": "gpt", "value": "ho", "tokens": 9}]},
])  # fmt: skip
VLLM = json.dumps({
    "backend": "vllm", "num_prompts": 3, "request_throughput": 2.0, "input_lens": [10, 20, 30],
    "output_lens": [5, 0, 7], "start_times": [100.0, 100.5, 101.0], "errors": ["", "x", ""],
})  # fmt: skip
CUSTOM = '{"prompt": "12345678", "output_tokens": 3}\n{"prompt": "1234", "output_tokens": 30}\n'


@pytest.fixture
def trace(tmp_path):
    def read(text, **options):
        (tmp_path / "trace").write_text(text)
        return read_trace(tmp_path / "trace", **options)

    return read


@pytest.mark.parametrize(
    ("text", "format", "arrival_s", "inputs", "outputs", "thinking"),
    [
        (AZURE, "azure", [0, 4.3145793, 4.541877], [374, 396, 879], [44, 109, 55], [0, 0, 0]),
        (AZURE_2024, "azure", [0, 0.007405, 0.99007], [2162, 2399, 76], [5, 6, 15], [0, 0, 0]),
        (BURST, "burstgpt", [0, 113], [472, 417], [18, 276], [0, 0]),
        (BURST_SESSIONS, "burstgpt", [0, 40.5, 113], [472, 1087, 417], [18, 10, 276], [0, 0, 0]),
        (PLAIN, "plain", [0, 1], [10, 20], [100, 200], [90, 0]),
        (MOONCAKE, "mooncake", [0, 0.25, 3], [1258, 1022, 512], [500, 490, 4], [0, 0, 0]),
        (SHAREGPT, "sharegpt", None, [10, 7], [40, 9], [20, 0]),
        (VLLM, "vllm_bench", [0, 1], [10, 30], [5, 7], [0, 0]),
        (CUSTOM, "vllm_custom", None, [2, 1], [3, 30], [0, 0]),
    ],
)
def test_every_format_is_recognised_and_read(trace, text, format, arrival_s, inputs, outputs, thinking):
    read = trace(text)
    assert read.format == format
    if arrival_s is None:
        assert read.arrival_s is None
    else:
        assert read.arrival_s == pytest.approx(arrival_s, abs=1e-9)
    assert read.input_tokens.tolist() == inputs
    assert read.output_tokens.tolist() == outputs
    assert read.thinking_tokens.tolist() == thinking
    assert len(trace(text, format=format)) == len(read)
    assert read.summary().num_requests == len(inputs)


def test_every_format_is_covered():
    assert set(FORMATS) == {"azure", "burstgpt", "plain", "mooncake", "sharegpt", "vllm_bench", "vllm_custom"}


def test_what_was_dropped_or_assumed_is_said(trace):
    assert trace(BURST).num_dropped == {"failed requests (no response tokens)": 1}
    assert trace(VLLM).num_dropped == {"failed requests (no output tokens)": 1}
    read = trace(SHAREGPT)
    assert read.num_dropped == {"conversations of fewer than two turns": 1, "turns after the first answer": 1}
    assert read.notes == ("token counts assumed for 1 of 2 requests: characters / 4",)
    assert "assumed" in trace(CUSTOM).notes[0]


def test_prefix_blocks_and_sessions_are_kept(trace):
    read = trace(MOONCAKE)
    assert read.hash_ids.tolist() == [0, 1, 2, 0, 14]
    assert read.hash_offsets.tolist() == [0, 3, 5, 5]
    assert trace(BURST_SESSIONS).session_ids.tolist() == [0, 1, 0]


def test_a_byte_order_mark_and_carriage_returns_are_no_matter(trace):
    assert trace("\ufeff" + AZURE.replace("\n", "\r\n")).input_tokens.tolist() == [374, 396, 879]
    assert len(trace("\ufeff" + MOONCAKE)) == 3


def test_times_may_be_kept_as_written(trace):
    assert trace(PLAIN, rebase=False).arrival_s.tolist() == [1.5, 2.5]


def test_times_that_go_back_are_refused_with_the_mend_and_sorted_on_request(trace):
    lines = MOONCAKE.splitlines()
    text = "\n".join([lines[1], lines[0], lines[3]])
    with pytest.raises(
        InputError, match=r"trace:2: the time goes back, from 1.25 s to 1 s; set `sort: true`"
    ):
        trace(text)
    read = trace(text, sort=True)
    assert read.arrival_s.tolist() == [0, 0.25, 3]
    assert read.input_tokens.tolist() == [1258, 1022, 512]
    assert read.hash_ids.tolist() == [0, 1, 2, 0, 14]
    assert read.hash_offsets.tolist() == [0, 3, 5, 5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "trace: is empty"),
        ("  \n", "trace: is empty"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no request"),
        ("a,b,c\n1,2,3\n", 'of no known trace format; it begins with "a,b,c"; say `format:` one of azure'),
        ("a,b\x00\xff", "of no known trace format"),
        (AZURE.replace("396,109", "396"), ":3: 2 cells where the header has 3"),
        (AZURE.replace("396,109", "396,109,1"), ":3: 4 cells where the header has 3"),
        (AZURE.replace("396", "x"), ':3: ContextTokens is "x"'),
        (AZURE.replace("396", ""), ':3: ContextTokens is ""'),
        (AZURE.replace("396", "-3"), ":3: -3 input tokens; a whole number of 1 or more"),
        (AZURE.replace("396", "nan"), ":3: nan input tokens"),
        (AZURE.replace("109", "0"), ":3: 0 output tokens"),
        (AZURE.replace("109", "1.5"), ":3: 1.5 output tokens"),
        (AZURE.replace("2023-11-16 18:15:50", "yesterday"), ':3: TIMESTAMP is "yesterday'),
        (PLAIN.replace("2.5", "inf"), ":3: the time is not a finite number"),
        (PLAIN.replace("100,90", "100,100"), ":2: all output tokens are thinking"),
        (MOONCAKE.replace("1022", '"1022"'), ':2: input_length is "1022"'),
        (MOONCAKE.replace('"output_length": 4}', '"output_length": 4'), ":4: not valid JSON"),
        (MOONCAKE.replace(', "output_length": 4}', "}"), ':4: "output_length" is missing'),
        (MOONCAKE.replace("[0, 14]", '["a"]'), ":2: hash_ids is no list of integers"),
        (MOONCAKE.replace("1022", "0"), ":2: 0 input tokens"),
        (VLLM.replace("[5, 0, 7]", "[5, 0]"), "3 input_lens and 2 output_lens"),
        (json.dumps({"request_throughput": 1.0}), "run the benchmark with --save-detailed"),
        (
            SHAREGPT.replace('"value": "hi"', '"values": "hi"'),
            'conversation 3: has a turn without the text "value"',
        ),
        (CUSTOM.replace(', "output_tokens": 30', ""), ':2: "output_tokens" is missing'),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(trace, text, words):
    with pytest.raises(InputError, match=words):
        trace(text)


def test_unknown_formats_and_missing_files_are_refused(trace, tmp_path):
    with pytest.raises(InputError, match=r'no trace format "azur"\. Did you mean "azure"'):
        trace(AZURE, format="azur")
    with pytest.raises(InputError, match="does not exist"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(InputError, match="does not exist"):
        read_trace(tmp_path / "none.csv", format="azure")
    with pytest.raises(InputError, match=":1: has no column Request tokens, Response tokens"):
        trace("Timestamp,x\n1,2\n", format="burstgpt")


@pytest.mark.parametrize(
    ("name", "num", "input_mean", "output_p50"),
    [
        ("azure_llm_2023_conv.csv", 19_366, 1154.7, 129),
        ("azure_llm_2023_code.csv", 8_819, 2047.8, 13),
        ("mooncake_conversation.jsonl", 12_031, 12035.1, 350),
    ],
)
def test_real_traces(name, num, input_mean, output_p50):
    if not (REAL / name).exists():
        pytest.skip(f"{name} is not beside this checkout")
    read = read_trace(REAL / name)
    assert len(read) == num
    assert (np.diff(read.arrival_s) >= 0).all()
    summary = read.summary()
    assert summary.input_tokens.mean == pytest.approx(input_mean, abs=0.1)
    assert summary.output_tokens.p50 == output_p50


def test_a_million_rows_are_read_in_seconds(tmp_path):
    rows = "".join(f"{index / 100},{index % 999 + 1},{index % 99 + 1}\n" for index in range(1_000_000))
    (tmp_path / "big.csv").write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    begun = time.perf_counter()
    assert len(read_trace(tmp_path / "big.csv")) == 1_000_000
    assert time.perf_counter() - begun < 10
