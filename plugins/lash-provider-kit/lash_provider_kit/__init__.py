"""What lash's model providers share: transport, server-sent events, retries, failure kinds, redaction."""

from lash_provider_kit.credentials import Credential, CredentialManager, CredentialRevoked
from lash_provider_kit.failures import AttemptFailed, Seen, ServiceError, classify, error_object
from lash_provider_kit.limiter import RateLimiter, RateLimits
from lash_provider_kit.reader import MALFORMED_EVENT, Decoder, Limits, StreamReader
from lash_provider_kit.redact import Redactor, checked_header, checked_url, is_loopback, with_path
from lash_provider_kit.retry import RetryMode, RetryPolicy
from lash_provider_kit.service import StreamingService
from lash_provider_kit.sse import SseLimitExceeded, SseParser
from lash_provider_kit.transport import HttpTransport, Timeouts

__all__ = [
    "MALFORMED_EVENT",
    "AttemptFailed",
    "Credential",
    "CredentialManager",
    "CredentialRevoked",
    "Decoder",
    "HttpTransport",
    "Limits",
    "RateLimiter",
    "RateLimits",
    "Redactor",
    "RetryMode",
    "RetryPolicy",
    "Seen",
    "ServiceError",
    "SseLimitExceeded",
    "SseParser",
    "StreamReader",
    "StreamingService",
    "Timeouts",
    "checked_header",
    "checked_url",
    "classify",
    "error_object",
    "is_loopback",
    "with_path",
]
