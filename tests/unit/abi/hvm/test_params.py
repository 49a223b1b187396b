"""hvm/params.h."""

from xenion.abi.hvm import params


def test_numbers() -> None:
    assert (params.HVM_PARAM_STORE_PFN, params.HVM_PARAM_STORE_EVTCHN) == (1, 2)
    assert (params.HVM_PARAM_CONSOLE_PFN, params.HVM_PARAM_CONSOLE_EVTCHN) == (17, 18)


def test_every_parameter_has_its_own_number() -> None:
    numbers = [
        value
        for name, value in vars(params).items()
        if name.startswith("HVM_PARAM_") and "CALLBACK_TYPE" not in name and "MASK" not in name
    ]
    assert len(set(numbers)) == len(numbers) == 36
    assert max(numbers) == params.HVM_NR_PARAMS - 1
