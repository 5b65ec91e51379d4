"""A small sound file of every trace format, and tables of lengths."""

from __future__ import annotations

import json

CSVS = {
    "azure": """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951693,396,109
2024-05-10 00:00:01+00:00,76,15
""",
    "burstgpt": """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5.0,a,1.5,ChatGPT,472,18,490,Conversation log
45.5,b,1.5,ChatGPT,1087,0,1087,Conversation log
118,a,1.5,GPT-4,417,276,693,API log
""",
    "plain": "arrival_s,input_tokens,output_tokens,thinking_tokens\n1.5,10,100,90\n2.5,20,200,0\n",
}
LINES = {
    "mooncake": [
        {"timestamp": 1000, "input_length": 1258, "output_length": 500, "hash_ids": [0, 1, 2]},
        {"timestamp": 1250, "input_length": 1022, "output_length": 490, "hash_ids": [0, 14]},
        {"timestamp": 4000, "input_length": 512, "output_length": 4},
    ],
    "vllm_custom": [{"prompt": "12345678", "output_tokens": 3}, {"prompt": "1234", "output_tokens": 30}],
}
DOCUMENTS = {
    "sharegpt": [
        {"id": "a", "conversations": [{"from": "human", "value": "x" * 40},
                                      {"from": "gpt", "value": "<think>" + "y" * 65 + "</think>" + "z" * 80},
                                      {"from": "human", "value": "more"}]},
        {"id": "b", "conversations": [{"from": "human", "value": "alone"}]},
        {"id": "c", "conversations": [{"from": "human", "value": "hi", "tokens": 7},
                                      {"from": "gpt", "value": "ho", "tokens": 9}]},
    ],
    "vllm_bench": {
        "backend": "vllm", "num_prompts": 3, "request_throughput": 2.0, "input_lens": [10, 20, 30],
        "output_lens": [5, 0, 7], "start_times": [100.0, 100.5, 101.0], "errors": ["", "x", ""],
    },
}  # fmt: skip
TABLES = {
    "lengths": "input,thinking,answer\n100,0,50\n2000,9000,700\n",
    "weighted": "input,thinking,answer,weight\n100,0,50,3\n2000,9000,700,0.5\n",
}


def texts() -> dict[str, bytes]:
    """Return every sample as the bytes of its file."""
    found = dict(CSVS)
    found |= {name: "".join(json.dumps(row) + "\n" for row in rows) for name, rows in LINES.items()}
    found |= {name: json.dumps(document, indent=1) for name, document in DOCUMENTS.items()}
    return {name: text.encode() for name, text in found.items()}
