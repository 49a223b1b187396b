/* What Python calls of the software processor. This file is also read by cffi: plain C only. */
struct engine;

/* Opens the library at PATH once; NULL, or why it cannot be used. */
const char *engine_load(const char *path);
/* Checks every assumption about the loaded build on a scratch instance; NULL, or what differs. */
const char *engine_probe(void);

struct engine *engine_create(struct domain *d, int notify_fd, uint32_t buffer_mib);
void engine_set_callbacks(struct engine *e, struct processor_callbacks callbacks);
void engine_set_cpuid(struct engine *e, const struct cpuid_leaf *leaves, uint32_t count);
const char *engine_start(struct engine *e, uint64_t rip, uint64_t rsp, uint64_t rsi);
/* Runs the vCPUs until their domain stops; NULL, or what went wrong. */
const char *engine_run(struct engine *e);
void engine_destroy(struct engine *e);
uint64_t engine_flags(struct engine *e, uint32_t vcpu);
void engine_segments(struct engine *e, uint32_t vcpu, uint64_t *bases, uint16_t *selectors);
uint64_t engine_tsc(void);
/* Of vCPUs that are held: the floating-point and SSE registers, as FXSAVE64 lays them out (FXSAVE_BYTES). */
#define FXSAVE_BYTES 512
void engine_read_fpu(struct engine *e, uint32_t vcpu, uint8_t *image);
void engine_write_fpu(struct engine *e, uint32_t vcpu, const uint8_t *image);
/* Before it runs: the domain's tsc_offset has been set. */
void engine_tsc_changed(struct engine *e);
