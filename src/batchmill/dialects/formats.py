"""How each dialect writes its result lines."""

from __future__ import annotations

from batchmill.dialects.mistral.lines import MistralLines
from batchmill.dialects.openai.lines import OpenAILines
from batchmill.model import Dialect
from batchmill.ports import Formats

FORMATS: Formats = {Dialect.MISTRAL: MistralLines(), Dialect.OPENAI: OpenAILines()}
