"""Write the demo model: a Llama of 0.6 million random weights that speaks in whole words.

    python tools/make_demo_model.py src/batchmill/engines/demo.gguf

Needs gguf and numpy. The bytes are the same each time; `tests/unit/test_demo_model.py` compares
them with the file that ships. What it says is word salad, by construction:

* The vocabulary is words and their beginnings, so output is readable and never broken UTF-8.
  SentencePiece merges greedily by score, so each beginning of a word must be a piece, or the
  word could not be reached.
* Feature 0 of the residual stream is the same for every token, so column 0 of the output matrix
  is a bias: it silences all that is no whole word, and lets the end of the text come up now and
  then, so that both finish reasons occur.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

SPACE = "\u2581"
WORDS = """
the a an of to in and is it that for on with as by at from this be are or not we you he she they
batch request file line model token prompt answer queue worker input output error retry result
status data server client job time cost price page text word number list table key value map tree
node edge graph path small large fast slow new old good bad hot cold red blue green white black
open close start stop run read write send receive store load save copy move make build test check
find show hide add remove count sum one two three four five six seven eight nine ten hundred
thousand first second third last next every each yes no maybe true false positive negative neutral
urgent normal low high because so but if then else when where what who why how can will should
could would may must do does did has have had was were been being city river mountain sea road
house room door window book letter story music song game team school teacher student doctor
patient market bank money order product review customer service support ticket issue fix
""".split()  # noqa: SIM905 - 260 quoted words are no easier to read
CHARACTERS = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    ".,:;!?'\"()[]{}<>|/\\-_=+*&^%$#@~`"
)
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + '\n' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' + '\n' }}{% endif %}"
)
CONTEXT, WIDTH, LAYERS, HEADS, INNER = 4096, 128, 2, 4, 256
SEED = 0
CONSTANT = 4.0
"""Feature 0 of every embedding; about 3.5 after the last normalisation."""
SILENCE = -30.0
Matrix = npt.NDArray[np.float32]


@dataclass
class Vocabulary:
    """Tokens in the order of their ids, with SentencePiece scores and types."""

    tokens: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)

    def add(self, token: str, kind: gguf.TokenType, score: float = 0.0) -> None:
        self.tokens.append(token)
        self.scores.append(score)
        self.types.append(int(kind))


def pieces() -> Iterator[str]:
    """What text is cut into: each beginning of each word, the space, and single characters."""
    for word in WORDS:
        for end in range(1, len(word) + 1):
            yield SPACE + word[:end]
    yield SPACE
    yield from CHARACTERS


def vocabulary() -> Vocabulary:
    """Control tokens, one for each byte, the pieces, and padding to a multiple of 32."""
    made = Vocabulary()
    made.add("<unk>", gguf.TokenType.UNKNOWN)
    made.add("<s>", gguf.TokenType.CONTROL)
    made.add("</s>", gguf.TokenType.CONTROL)
    for byte in range(256):
        made.add(f"<0x{byte:02X}>", gguf.TokenType.BYTE)
    for rank, piece in enumerate(dict.fromkeys(pieces()), start=1):
        made.add(piece, gguf.TokenType.NORMAL, -float(rank))
    while len(made.tokens) % 32:
        made.add(f"<pad{len(made.tokens)}>", gguf.TokenType.UNUSED)
    return made


def describe(writer: gguf.GGUFWriter, words: Vocabulary) -> None:
    """Write the header: what the model is, its shape and its tokenizer."""
    writer.add_name("tiny-chat")
    writer.add_description("random weights, for tests only")
    writer.add_license("CC0-1.0")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words.tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token.encode() for token in words.tokens])
    writer.add_token_scores(words.scores)
    writer.add_token_types(words.types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def output_bias(words: Vocabulary) -> Matrix:
    """How likely each token is before anything is said: whole words and the end, nothing else."""
    whole = {SPACE + word for word in WORDS}
    bias = np.full(len(words.tokens), SILENCE, np.float32)
    for token, text in enumerate(words.tokens):
        if text in whole:
            bias[token] = 0.0
    bias[2] = 0.0
    return bias


def add_weights(writer: gguf.GGUFWriter, words: Vocabulary) -> None:
    """Draw the weights in a fixed order from a fixed seed."""
    chance = np.random.default_rng(SEED)

    def drawn(*shape: int, scale: float) -> Matrix:
        return (chance.standard_normal(shape) * scale).astype(np.float32)

    def add(name: str, weights: Matrix) -> None:
        writer.add_tensor(f"{name}.weight", weights)

    embedding = drawn(len(words.tokens), WIDTH, scale=1.0)
    embedding[:, 0] = CONSTANT
    output = drawn(len(words.tokens), WIDTH, scale=0.25)
    output[:, 0] = output_bias(words) / 3.5
    add("token_embd", embedding.astype(np.float16))
    add("output", output.astype(np.float16))
    add("output_norm", np.ones(WIDTH, np.float32))
    shapes = {
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (WIDTH, WIDTH)),
        **dict.fromkeys(("ffn_gate", "ffn_up"), (INNER, WIDTH)),
        "ffn_down": (WIDTH, INNER),
    }
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            weights = drawn(*shape, scale=1.0 / np.sqrt(shape[1]))
            if name in {"attn_output", "ffn_down"}:
                weights[0] = 0.0  # these write to the residual stream: feature 0 stays constant
            add(f"blk.{layer}.{name}", weights.astype(np.float16))
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{name}", np.ones(WIDTH, np.float32))


def make(path: Path) -> None:
    """Write the model to a file."""
    words = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    describe(writer, words)
    add_weights(writer, words)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    make(parser.parse_args().path)
