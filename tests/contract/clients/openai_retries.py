"""Call a simulator's compatible mode once, with the openai SDK's own retries; print JSON."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import openai

url, key, file = sys.argv[1:]
AUDIO = "data:audio/wav;base64," + base64.b64encode(Path(file).read_bytes()).decode()
part = {"type": "input_audio", "input_audio": {"data": AUDIO}}
messages: Any = [{"role": "user", "content": [part]}]
with openai.OpenAI(api_key=key, base_url=f"{url}/compatible-mode/v1") as client:
    answer = client.chat.completions.create(model="qwen3-asr-flash", messages=messages)
print(json.dumps({"text": answer.choices[0].message.content}))
