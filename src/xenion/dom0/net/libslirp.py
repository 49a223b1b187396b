"""libslirp (libslirp.h, versions 4.1 and later), the user-mode network stack that QEMU uses, through cffi."""

import ipaddress
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cffi import FFI

LIBRARY = "libslirp.so.0"
POLL_IN, POLL_OUT, POLL_PRI, POLL_ERR, POLL_HUP = 1, 2, 4, 8, 16

_ffi = FFI()
_ffi.cdef(
    """
    typedef struct Slirp Slirp;
    struct in_addr { uint32_t s_addr; };
    struct in6_addr { uint8_t s6_addr[16]; };
    typedef struct SlirpConfig {
        uint32_t version;
        int restricted;
        bool in_enabled;
        struct in_addr vnetwork, vnetmask, vhost;
        bool in6_enabled;
        struct in6_addr vprefix_addr6;
        uint8_t vprefix_len;
        struct in6_addr vhost6;
        const char *vhostname, *tftp_server_name, *tftp_path, *bootfile;
        struct in_addr vdhcp_start, vnameserver;
        struct in6_addr vnameserver6;
        const char **vdnssearch;
        const char *vdomainname;
        size_t if_mtu, if_mru;
        bool disable_host_loopback, enable_emu;
    } SlirpConfig;
    typedef struct SlirpCb {
        ssize_t (*send_packet)(const void *buf, size_t len, void *opaque);
        void (*guest_error)(const char *msg, void *opaque);
        int64_t (*clock_get_ns)(void *opaque);
        void *(*timer_new)(void (*cb)(void *), void *cb_opaque, void *opaque);
        void (*timer_free)(void *timer, void *opaque);
        void (*timer_mod)(void *timer, int64_t expire_time, void *opaque);
        void (*register_poll_fd)(int fd, void *opaque);
        void (*unregister_poll_fd)(int fd, void *opaque);
        void (*notify)(void *opaque);
    } SlirpCb;
    Slirp *slirp_new(const SlirpConfig *cfg, const SlirpCb *callbacks, void *opaque);
    void slirp_cleanup(Slirp *slirp);
    void slirp_pollfds_fill(Slirp *slirp, uint32_t *timeout, int (*add)(int fd, int events, void *), void *opaque);
    void slirp_pollfds_poll(Slirp *slirp, int error, int (*get)(int idx, void *opaque), void *opaque);
    void slirp_input(Slirp *slirp, const uint8_t *pkt, int pkt_len);
    int slirp_add_hostfwd(Slirp *slirp, int is_udp, struct in_addr host_addr, int host_port,
                          struct in_addr guest_addr, int guest_port);
    """
)


class MissingLibraryError(Exception):
    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"{LIBRARY} cannot be loaded: install the package libslirp0 (Debian, Ubuntu) or libslirp (Fedora, Arch) "
            f"({error})"
        )


class ForwardError(Exception):
    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"the port forward {what} cannot be opened: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlirpNetwork:
    """Addresses of the guest's network; `prefix6` None: no IPv6."""

    network: ipaddress.IPv4Network
    gateway: ipaddress.IPv4Address
    address: ipaddress.IPv4Address
    dns: ipaddress.IPv4Address
    prefix6: ipaddress.IPv6Network | None = None
    mtu: int = 65520
    hostname: str = ""
    host_loopback: bool = True
    """The gateway's address leads to the host's own 127.0.0.1."""


class _Timer:
    def __init__(self, callback: Any, argument: Any) -> None:
        self.callback, self.argument = callback, argument
        self.due: int | None = None


class Slirp:
    """One stack. `send` gets each frame for the guest, bytes that are good until it returns.

    MissingLibraryError. Not for several threads.
    """

    def __init__(self, network: SlirpNetwork, send: Callable[[memoryview], None]) -> None:
        try:
            self._lib: Any = _ffi.dlopen(LIBRARY)
        except OSError as error:
            raise MissingLibraryError(error) from error
        self._send = send
        self._timers: dict[Any, _Timer] = {}
        self._adder: Callable[[int, int], int] = lambda fd, events: -1
        self._getter: Callable[[int], int] = lambda index: 0
        self.guest_errors = 0
        self._kept = self._callbacks()
        config = self._config(network)
        self._stack = self._lib.slirp_new(config, self._kept[0], _ffi.NULL)
        self._guest = network.address

    def _config(self, network: SlirpNetwork) -> Any:
        config = _ffi.new("SlirpConfig *")
        config.version = 1
        config.in_enabled = True
        config.vnetwork.s_addr = _word(network.network.network_address)
        config.vnetmask.s_addr = _word(network.network.netmask)
        config.vhost.s_addr = _word(network.gateway)
        config.vdhcp_start.s_addr = _word(network.address)
        config.vnameserver.s_addr = _word(network.dns)
        config.if_mtu = config.if_mru = network.mtu
        config.disable_host_loopback = not network.host_loopback
        if network.hostname:
            self._hostname = _ffi.new("char[]", network.hostname.encode())
            config.vhostname = self._hostname
        if network.prefix6 is not None:
            config.in6_enabled = True
            config.vprefix_len = network.prefix6.prefixlen
            config.vprefix_addr6.s6_addr = list(network.prefix6.network_address.packed)
            config.vhost6.s6_addr = list(network.prefix6[2].packed)
            config.vnameserver6.s6_addr = list(network.prefix6[3].packed)
        return config

    def _callbacks(self) -> list[Any]:
        """The table and what must live as long as it."""
        made = {
            "send_packet": _ffi.callback(
                "ssize_t(const void *, size_t, void *)", self._send_packet, error=-1
            ),
            "guest_error": _ffi.callback("void(const char *, void *)", self._guest_error),
            "clock_get_ns": _ffi.callback("int64_t(void *)", lambda opaque: time.monotonic_ns()),
            "timer_new": _ffi.callback("void *(void (*)(void *), void *, void *)", self._timer_new),
            "timer_free": _ffi.callback("void(void *, void *)", self._timer_free),
            "timer_mod": _ffi.callback("void(void *, int64_t, void *)", self._timer_mod),
            "register_poll_fd": _ffi.callback("void(int, void *)", lambda fd, opaque: None),
            "unregister_poll_fd": _ffi.callback("void(int, void *)", lambda fd, opaque: None),
            "notify": _ffi.callback("void(void *)", lambda opaque: None),
        }
        table = _ffi.new("SlirpCb *", made)
        self._add = _ffi.callback(
            "int(int, int, void *)", lambda fd, events, opaque: self._adder(fd, events), error=-1
        )
        self._get = _ffi.callback("int(int, void *)", lambda index, opaque: self._getter(index), error=0)
        return [table, *made.values()]

    def _send_packet(self, data: Any, length: int, opaque: Any) -> int:
        self._send(memoryview(_ffi.buffer(data, length)))
        return length

    def _guest_error(self, message: Any, opaque: Any) -> None:
        self.guest_errors += 1

    def _timer_new(self, callback: Any, argument: Any, opaque: Any) -> Any:
        timer = _Timer(callback, argument)
        handle = _ffi.new_handle(timer)
        self._timers[handle] = timer
        return handle

    def _timer_free(self, handle: Any, opaque: Any) -> None:
        self._timers.pop(handle, None)

    def _timer_mod(self, handle: Any, due_ms: int, opaque: Any) -> None:
        self._timers[handle].due = due_ms

    # --- what the loop calls

    def fill(self, add: Callable[[int, int], int], timeout_ms: int) -> int:
        """`add(fd, POLL_*)` for each socket, which returns its index; how long to wait at most, in ms."""
        limit = _ffi.new("uint32_t *", timeout_ms)
        self._adder = add
        self._lib.slirp_pollfds_fill(self._stack, limit, self._add, _ffi.NULL)
        due = [timer.due for timer in self._timers.values() if timer.due is not None]
        left = min(due, default=1 << 62) - time.monotonic_ns() // 1_000_000
        return max(min(int(limit[0]), left), 0)

    def poll(self, events: Callable[[int], int], *, failed: bool = False) -> None:
        """What became of the sockets: `events(index)` gives POLL_*. Also runs timers."""
        self._getter = events
        self._lib.slirp_pollfds_poll(self._stack, failed, self._get, _ffi.NULL)
        now = time.monotonic_ns() // 1_000_000
        for timer in list(self._timers.values()):
            if timer.due is not None and timer.due <= now:
                timer.due = None
                timer.callback(timer.argument)

    def input(self, frame: Any) -> None:
        """A frame from the guest."""
        self._lib.slirp_input(self._stack, _ffi.from_buffer("uint8_t[]", frame), len(frame))

    def forward(self, protocol: str, host: str, host_port: int, guest_port: int) -> None:
        """ForwardError. `protocol` is tcp or udp."""
        address = ipaddress.ip_address(host)
        if address.version != 4:
            raise ForwardError(f"{protocol}:[{host}]:{host_port}", "libslirp forwards IPv4 addresses only")
        failed = self._lib.slirp_add_hostfwd(
            self._stack, protocol == "udp", _in_addr(address), host_port, _in_addr(self._guest), guest_port
        )
        if failed:
            raise ForwardError(f"{protocol}:{host}:{host_port}", os.strerror(_ffi.errno))

    def close(self) -> None:
        self._lib.slirp_cleanup(self._stack)


def _word(address: ipaddress.IPv4Address) -> int:
    return int.from_bytes(address.packed, "little")


def _in_addr(address: Any) -> Any:
    return _ffi.new("struct in_addr *", [_word(address)])[0]
