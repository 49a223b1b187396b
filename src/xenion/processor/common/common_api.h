/* What Python gives and gets of any processor. This file is also read by cffi: plain C only. */
struct cpuid_leaf {
    uint32_t leaf, subleaf;    /* subleaf ~0: any */
    uint32_t eax, ebx, ecx, edx;
};

struct processor_callbacks {
    int64_t (*cold_call)(struct vcpu *v, uint64_t number, const uint64_t *args);
    int (*cold_trap)(struct vcpu *v, uint32_t vector, uint32_t error);
};
