/* What the native kernels share: vectors of the target's width, memory, and XLA's side of a handler. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "xla/ffi/api/c_api.h"

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define WIDE (2 * LANES)

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int64_t Int;

static inline Int larger(Int a, Int b) { return a > b ? a : b; }
static inline Int smaller(Int a, Int b) { return a < b ? a : b; }
static inline Int rounded(Int count, Int step) { return (count + step - 1) / step * step; }

static inline float *floats(Int count) {
    void *memory = NULL;
    return posix_memalign(&memory, 64, larger(count, 1) * sizeof(float)) ? NULL : memory;
}

static inline XLA_FFI_Error *refused(XLA_FFI_CallFrame *frame, XLA_FFI_Error_Code code, const char *message) {
    XLA_FFI_Error_Create_Args arguments = {XLA_FFI_Error_Create_Args_STRUCT_SIZE, NULL, message, code};
    return frame->api->XLA_FFI_Error_Create(&arguments);
}

/* Whether XLA asks which version the handler was written for; answers it. */
static inline int answered(XLA_FFI_CallFrame *frame) {
    if (!frame->extension_start || frame->extension_start->type != XLA_FFI_Extension_Metadata) return 0;
    XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
    metadata->api_version.major_version = XLA_FFI_API_MAJOR;
    metadata->api_version.minor_version = XLA_FFI_API_MINOR;
    return 1;
}

/* The numbers that Python hands over, `size` bytes of them; NULL if the call has not so many operands, results and numbers. */
static inline const void *numbers_of(XLA_FFI_CallFrame *frame, Int operands, Int results, size_t size) {
    if (frame->args.size != operands || frame->rets.size != results || frame->attrs.size != 1) return NULL;
    const XLA_FFI_Array *numbers = frame->attrs.attrs[0];
    int fits = frame->attrs.types[0] == XLA_FFI_AttrType_ARRAY && numbers->dtype == XLA_FFI_DataType_S64;
    return fits && numbers->size * sizeof(Int) == size ? numbers->data : NULL;
}

static inline float *operand(XLA_FFI_CallFrame *frame, Int index) { return ((XLA_FFI_Buffer *)frame->args.args[index])->data; }
static inline float *outcome(XLA_FFI_CallFrame *frame, Int index) { return ((XLA_FFI_Buffer *)frame->rets.rets[index])->data; }
