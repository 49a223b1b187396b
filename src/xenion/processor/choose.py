"""From the name in a configuration to a processor."""

import os

from xenion.processor import KVM, Features, Processor, ProcessorError

AUTOMATIC = "software"


def notes() -> list[str]:
    """What people are told of the processors here; asks without loading any."""
    if not KVM.exists():
        hardware = f"cannot be used, there is no {KVM}"
    elif not os.access(KVM, os.R_OK | os.W_OK):
        hardware = f"cannot be used, {KVM} is closed to this user"
    else:
        hardware = f'{KVM}, on trial: only for domains with processor = "hardware"'
    return ["software: the Unicorn engine, which works everywhere", f"hardware: {hardware}"]


def features_of(name: str) -> Features:
    """Of the one that a configuration names; the engine of the software processor is not loaded for it. ProcessorError,
    if it is known at once that a domain cannot have it here."""
    if _chosen(name) == "software":
        from xenion.processor.software import SoftwareProcessor

        return SoftwareProcessor.features
    return open_processor(name).features


def _chosen(name: str) -> str:
    return AUTOMATIC if name == "auto" else name


def open_processor(name: str) -> Processor:
    """`auto`, `software` or `hardware`; ProcessorError when it cannot be used here. Imported only when chosen."""
    name = _chosen(name)
    if name == "software":
        from xenion.processor.software import SoftwareProcessor

        return SoftwareProcessor()
    if name == "hardware":
        from xenion.processor.hardware import HardwareProcessor

        return HardwareProcessor()
    raise ProcessorError(f'there is no processor "{name}": use "auto", "software" or "hardware"')
