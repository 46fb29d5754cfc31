"""Models as they stand in the configurations of tests. No server of theirs is there."""

GPT = """
[models.gpt]
provider = "openai"
name = "gpt-5-mini"
api_key = { env = "A_KEY_THAT_NOBODY_HAS" }
"""
CLAUDE = """
[models.claude]
provider = "anthropic"
name = "claude-haiku-4-5"
api_key = { env = "A_KEY_THAT_NOBODY_HAS" }
"""
LOCAL = """
[models.gpt]
provider = "vllm"
base_url = "http://10.0.0.5:8000/v1"
[models.spare]
provider = "ollama"
"""
"""Two models without keys."""
