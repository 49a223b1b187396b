from pathlib import Path

import pytest

from xenion.config.domain import DomainConfig
from xenion.config.key import Key, Status
from xenion.config.keys import KEYS, suggestion
from xenion.config.xmfile import parse


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.name)
def test_every_example_parses(key: Key) -> None:
    assert list(parse(key.example, "example", {})) == [key.name]


def test_defaults_are_those_of_the_configuration_object() -> None:
    values = DomainConfig(name="web", kernel=Path("/k")).to_mapping()
    same = {"memory": "memory_mib", "console_scrollback": "console_scrollback_kib"}
    actions = ("on_poweroff", "on_reboot", "on_crash", "on_watchdog", "on_xend_start", "on_xend_stop")
    for name in ("memory", "vcpus", "processor", "console_scrollback", *actions):
        assert KEYS[name].default == values[same.get(name, name)]


def test_no_key_is_declared_twice() -> None:
    from xenion.config import keys

    assert len(list(keys._all_keys())) == len(KEYS)


# As tools/python/xen/xm/create.py declared them, from Xen 2.0 to 4.4; the last line is of samples and pages.
XM = """
access_control acpi apic audio blkif boot bootargs bootentry bootloader builder cdrom console cpu cpu_cap
cpu_weight cpuid cpuid_check cpus description device_model dhcp disk display extra fda fdb features gateway
gfx_passthru guest_os_type hap hostname hpet interface ioports ip ipaddr irq isa kernel keymap lapic loader
localtime machine_address_size maxmem memory memory_sharing monitor monitor_path name ne2000 nestedhvm netif
netmask nfs_root nfs_server nics nographic nomigrate on_crash on_poweroff on_reboot on_xend_start on_xend_stop
oos opengl pae parallel pci pci_msitranslate pci_power_mgmt pool ramdisk restart root rtc_timeoffset
s3_integrity sdl serial shadow_memory soundhw ssidref stdvga superpages suppress_spurious_page_faults target
timer_mode tpmif tsc_mode usb usbdevice usbport uuid vcpu_avail vcpus vfb vhpt videoram vif vif2 viridian vnc
vncconsole vncdisplay vnclisten vncpasswd vncunused vncviewer vpt_align vscsi vtpm vusb xauthority
xen_platform_pci memmap on_shutdown
"""

# As tools/xl/xl_parse.c reads them, from Xen 4.2 to 4.22.
XL = """
acpi acpi_firmware acpi_laptop_slate acpi_s3 acpi_s4 altp2m altp2m_count altp2mhvm apic arm_sci bios
bios_path_override boot bootloader bootloader_args bootloader_restrict bootloader_user builder cap channel
cmdline cpu_weight cpuid cpus cpus_soft device_model device_model_args device_model_args_hvm
device_model_args_pv device_model_override device_model_stubdomain_override device_model_stubdomain_seclabel
device_model_user device_model_version device_tree disk display dm_restrict driver_domain dtdev e820_host extra
extratime firmware firmware_override gfx_passthru gic_version hap hdtype hpet hvm_pirq init_seclabel iomem
ioports irqs kernel keymap latency llc_colors localtime max_event_channels max_grant_frames max_grant_version
max_maptrack_frames maxmem maxvcpus mca_caps memory mmio_hole ms_vm_genid msr_relaxed name nestedhvm nographic
nomigrate nr_spis nx on_crash on_poweroff on_reboot on_soft_reset on_watchdog oos opengl p9 pae passthrough pci
pci_msitranslate pci_permissive pci_power_mgmt pci_seize period pool pvcalls pvh pvshim pvshim_cmdline
pvshim_extra pvshim_path ramdisk rdm rdm_mem_boundary root rtc_timeoffset sdl seclabel serial shadow_memory
slice smbios smbios_firmware soundhw spice spice_clipboard_sharing spice_image_compression
spice_streaming_video spiceagent_mouse spicedisable_ticketing spicehost spicepasswd spiceport spicetls_port
spiceusbredirection spicevdagent stdvga stubdomain_cmdline stubdomain_kernel stubdomain_memory
stubdomain_ramdisk sve tee timer_mode trap_unmapped_accesses tsc_mode type usb usbctrl usbdev usbdevice
usbversion uuid vcpus vdispl vendor_device vfb vga videoram vif vif2 viridian virtio vkb vkb_device
vmtrace_buf_kb vnc vncdisplay vnclisten vncpasswd vncunused vncviewer vnuma vpmu vpt_align vsnd vtpm vuart
xauthority xen_platform_pci xen_platform_pci_bar_uc xend_suspend_evtchn_compat xenstore_feature_mask
xenstore_quota
"""


@pytest.mark.parametrize("names", [XM, XL], ids=["xm", "xl"])
def test_every_key_of_xm_and_xl_is_known(names: str) -> None:
    assert set(names.split()) - set(KEYS) == set()


def test_no_key_is_made_up() -> None:
    assert set(KEYS) - set(f"{XM} {XL}".split()) == {
        *("processor", "console_scrollback", "cloud_user_data", "cloud_meta_data", "cloud_network_config"),
        *("cloud_hostname", "cloud_ssh_keys"),
    }


def test_a_note_names_its_key_and_says_why() -> None:
    assert KEYS["vfb"].note == "vfb: not supported yet: there is no virtual display"
    assert KEYS["videoram"].note == "videoram: not supported yet: without effect on a paravirtualised guest"
    assert KEYS["latency"].note == "latency: not supported yet"
    assert KEYS["memory"].status is Status.ACTED


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("memroy", ": did you mean memory?"),
        ("on_reboots", ": did you mean on_reboot?"),
        ("zzz", ""),
        ("m" * 9999, ""),
    ],
)
def test_suggestion(name: str, sentence: str) -> None:
    assert suggestion(name) == sentence
