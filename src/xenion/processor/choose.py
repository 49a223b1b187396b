"""From the name in a configuration to a processor."""

from xenion.processor import Processor, ProcessorError


def open_processor(name: str) -> Processor:
    """`auto` or `software`; ProcessorError when it cannot be used here. Imported only when chosen."""
    if name in ("auto", "software"):
        from xenion.processor.software import SoftwareProcessor

        return SoftwareProcessor()
    raise ProcessorError(f'there is no processor "{name}": use "auto" or "software"')
