"""What providers are asked in tests: messages, attachments, whole requests, and those that are refused unsent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmAttachment, LlmCallError, LlmRequest, ProviderFailureKind
from lash_hookspecs.llm_messages import ImageBlock, LlmBlock, LlmMessage, LlmRole, TextBlock, llm_text
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.testing.provider.wire import MODEL

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["LOADED", "NOT_LOADED", "PNG", "any_message", "asked", "assistant", "refused", "system", "user"]

PNG = AttachmentRef(id="sha256:" + "0" * 64, media_type="image/png", size=3)
"""An image, by reference."""

LOADED = LlmAttachment(reference=PNG, data=b"abc")
"""The same image with its bytes, as a request holds it."""

NOT_LOADED: tuple[tuple[ImageBlock, tuple[LlmAttachment, ...]], ...] = (
    (ImageBlock(attachment_idx=0), ()),
    (ImageBlock(attachment_idx=-1), (LOADED,)),
    (ImageBlock(attachment_idx=0), (LlmAttachment(reference=PNG),)),
    (ImageBlock(attachment_idx=0, attachment=PNG), ()),
)
"""Images, each with a request's attachments, among which its bytes aren't."""


def user(*said: LlmBlock | str) -> LlmMessage:
    """A message of the user's; one text alone is as a conversation's are, a `llm_text`."""
    return _message(LlmRole.USER, said)


def assistant(*said: LlmBlock | str) -> LlmMessage:
    """A message of the model's."""
    return _message(LlmRole.ASSISTANT, said)


def system(text: str) -> LlmMessage:
    """A part of the prompt, or where it stands later, of whoever asks the model."""
    return llm_text(LlmRole.SYSTEM, text)


def _message(role: LlmRole, said: tuple[LlmBlock | str, ...]) -> LlmMessage:
    match said:
        case (str(text),):
            return llm_text(role, text)
        case _:
            return LlmMessage(role, tuple(TextBlock(text=each) if isinstance(each, str) else each for each in said))


def asked(*messages: LlmMessage, **fields: Any) -> LlmRequest:
    """A request; without messages, the user says hello."""
    return LlmRequest(**{"model": MODEL, "messages": messages or (user("hello"),), **fields})


def refused(encode: Callable[[], object]) -> LlmCallError:
    """Why a request isn't even sent: its own fault, so that it isn't repeated, and nothing has been used."""
    try:
        made = encode()
    except LlmCallFailed as failed:
        error = failed.error
        if (error.kind, error.retryable, error.usage) != (ProviderFailureKind.VALIDATION, False, None):
            raise AssertionError(f"no refusal of a request that can't be sent: {error!r}") from None
        return error
    raise AssertionError(f"the request had to be refused, and became {made!r}")


def any_message(*blocks: LlmBlock) -> SearchStrategy[LlmMessage]:
    """Messages for hypothesis: of any role, of `blocks`, of texts that are empty or half a character, of images."""
    from hypothesis import strategies as st

    texts = [TextBlock(text=each) for each in ("hi", "", "half a \ud83d pair")]
    images = [ImageBlock(attachment_idx=0, attachment=PNG), ImageBlock(attachment_idx=0)]
    said = st.lists(st.sampled_from([*texts, *images, *blocks]), max_size=3).map(tuple)
    roles = st.sampled_from(LlmRole)
    return st.builds(LlmMessage, roles, said) | st.builds(llm_text, roles, st.sampled_from(["", "hi"]))
