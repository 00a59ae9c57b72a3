"""icmplib's sockets, without its asynchronous half: asyncio would stay resident, 1.4 MB, for functions that are never called here."""

from kerege_agent.lean import without

with without("asyncio"):
    from icmplib import ICMPLibError, ICMPRequest, ICMPv4Socket, ICMPv6Socket, SocketPermissionError

__all__ = ["ICMPLibError", "ICMPRequest", "ICMPv4Socket", "ICMPv6Socket", "SocketPermissionError"]
