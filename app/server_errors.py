"""The errors of the server itself: connections, request heads, resources of the process."""

from app.errors import GatewayError


class InvalidRequest(GatewayError):
    code, status = "invalid_request", 400
    public = "The request is not valid HTTP/1.1. Check the client, and the proxy in front of it."


class WebSocketNotSupported(GatewayError):
    code, status = "websocket_not_supported", 400
    public = (
        "The gateway has no WebSocket. Send audio with POST /v1/transcriptions, and read text as "
        "it arrives with `Accept: text/event-stream`."
    )


class RequestHeadTooSlow(GatewayError):
    code, status = "request_head_too_slow", 408
    public = "The request headers arrived too slowly. Check the connection and send them again."
    retryable = True


class RequestHeadTooLarge(GatewayError):
    code, status = "request_head_too_large", 431
    public = "The request headers are too large. Send fewer or shorter headers, or a shorter URL."


class TooManyConnections(GatewayError):
    code, status = "too_many_connections", 503
    public = "The gateway has too many open connections. Retry after a short time."
    retryable = True


class CorsRefused(GatewayError):
    code, status = "cors_refused", 400
    public = (
        "The web page may not send this request. Ask the operator to allow its origin or headers: "
        "GATEWAY_SERVER__CORS_ORIGINS, GATEWAY_SERVER__CORS_HEADERS."
    )


class StorageNotWritable(GatewayError):
    code, status = "storage_not_writable", 503
    public = (
        "The gateway cannot write to its storage. Ask the operator to run `asr-gateway doctor`."
    )
    retryable = True


class OutOfResources(GatewayError):
    code, status = "out_of_resources", 503
    public = "The gateway has too many open files or no free memory. Retry after a short time."
    retryable = True
