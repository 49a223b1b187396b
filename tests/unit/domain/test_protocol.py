"""Events of a domain process are lines."""

from hypothesis import given
from hypothesis import strategies as st

from xenion.domain.protocol import Event


@given(
    st.builds(
        Event, st.sampled_from(["running", "refused", "note", "ended"]), text=st.text(), report=st.text()
    )
)
def test_an_event_survives_its_line(event: Event) -> None:
    line = event.encode()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert Event.decode(line) == event
