"""What answers the actions of xenion.api.actions, a file a topic."""

from xenion.xend.call import Handlers
from xenion.xend.handlers.checkpoints import CheckpointActions
from xenion.xend.handlers.control import Control
from xenion.xend.handlers.creation import Creation
from xenion.xend.handlers.devices import Devices
from xenion.xend.handlers.dump import Dump
from xenion.xend.handlers.listing import Listing
from xenion.xend.handlers.messages import Messages
from xenion.xend.handlers.migration import Migrating
from xenion.xend.handlers.power import Power
from xenion.xend.handlers.saving import Saving
from xenion.xend.handlers.shares import Shares
from xenion.xend.handlers.suspending import Suspending
from xenion.xend.handlers.work import Work
from xenion.xend.services import Services


def all_handlers(services: Services) -> Handlers:
    """One for each action, by its name."""
    topics = (
        *(
            Listing,
            Creation,
            Power,
            Control,
            Shares,
            Devices,
            Dump,
            Saving,
            CheckpointActions,
            Migrating,
            Messages,
        ),
        *(Suspending, Work),
    )
    return {name: handler for topic in topics for name, handler in topic(services).handlers().items()}
