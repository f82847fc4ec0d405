/* A PKCS#11 module in front of SoftHSM that fails as the file $FAULTY_PKCS11 says, one fault a line:
 *   load hang | initialize hang | sign hang | sign crash | sign CKR | sign CKR once | login CKR | flags BITS | slots none
 *   unflagged always | unflagged elsewhere (no flag tells of wrong PINs, or only in the process that gave them)
 * Numbers are hexadecimal. Each C_Login is noted by one byte appended to $FAULTY_PKCS11.logins.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ul;

/* CK_FUNCTION_LIST (PKCS#11 2.40 5.2): a version, padded, and 68 functions in this order. */
enum { INITIALIZE = 0, FUNCTION_LIST = 3, SLOT_LIST = 4, TOKEN_INFO = 6, LOGIN = 18, SIGN_INIT = 42, COUNT = 68 };
struct list {
  unsigned char version[8];
  void *functions[COUNT];
};
static struct list *real, ours;
static const size_t FLAGS_OFFSET = 96; /* of CK_TOKEN_INFO */

static const ul WRONG_PINS = 0x70000; /* CKF_USER_PIN_COUNT_LOW, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED */
static int refused;                   /* a PIN, in this process */

static int fault(const char *name, char *kind, size_t size) {
  char line[128], wanted[32], found[96];
  FILE *file = fopen(getenv("FAULTY_PKCS11"), "r");
  int there = 0;
  while (file != NULL && !there && fgets(line, sizeof line, file) != NULL)
    there = sscanf(line, "%31s %95[^\n]", wanted, found) == 2 && strcmp(wanted, name) == 0;
  if (file != NULL) fclose(file);
  if (there) snprintf(kind, size, "%s", found);
  return there;
}

static ul failing(const char *name) {
  char kind[96];
  if (!fault(name, kind, sizeof kind)) return 0;
  if (strcmp(kind, "hang") == 0)
    for (;;) pause();
  if (strcmp(kind, "crash") == 0) abort();
  if (strstr(kind, "once") != NULL) unlink(getenv("FAULTY_PKCS11"));
  return strtoul(kind, NULL, 16);
}

static ul initialize(void *arguments) {
  ul code = failing("initialize");
  return code ? code : ((ul(*)(void *))real->functions[INITIALIZE])(arguments);
}

static ul slot_list(unsigned char present, ul *slots, ul *count) {
  char kind[96];
  if (fault("slots", kind, sizeof kind)) {
    *count = 0;
    return 0;
  }
  return ((ul(*)(unsigned char, ul *, ul *))real->functions[SLOT_LIST])(present, slots, count);
}

static ul token_info(ul slot, void *information) {
  char kind[96];
  ul code = ((ul(*)(ul, void *))real->functions[TOKEN_INFO])(slot, information);
  ul *flags = (ul *)((char *)information + FLAGS_OFFSET);
  if (fault("flags", kind, sizeof kind)) *flags |= strtoul(kind, NULL, 16);
  if (fault("unflagged", kind, sizeof kind) && !(strcmp(kind, "elsewhere") == 0 && refused)) *flags &= ~WRONG_PINS;
  return code;
}

static ul login(ul session, ul user, void *pin, ul length) {
  char path[4096];
  ul code;
  snprintf(path, sizeof path, "%s.logins", getenv("FAULTY_PKCS11"));
  int noted = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
  if (noted < 0 || write(noted, "x", 1) != 1) abort();
  close(noted);
  code = failing("login");
  if (code == 0) code = ((ul(*)(ul, ul, void *, ul))real->functions[LOGIN])(session, user, pin, length);
  refused |= code != 0;
  return code;
}

static ul sign_init(ul session, void *mechanism, ul key) {
  ul code = failing("sign");
  return code ? code : ((ul(*)(ul, void *, ul))real->functions[SIGN_INIT])(session, mechanism, key);
}

ul C_GetFunctionList(struct list **list) {
  void *library = dlopen("/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
  ul (*get)(struct list **) = library ? (ul(*)(struct list **))dlsym(library, "C_GetFunctionList") : NULL;
  ul code = failing("load");
  if (code) return code;
  if (get == NULL || get(&real) != 0) return 5; /* CKR_GENERAL_ERROR */
  ours = *real;
  ours.functions[INITIALIZE] = (void *)initialize;
  ours.functions[FUNCTION_LIST] = (void *)C_GetFunctionList;
  ours.functions[SLOT_LIST] = (void *)slot_list;
  ours.functions[TOKEN_INFO] = (void *)token_info;
  ours.functions[LOGIN] = (void *)login;
  ours.functions[SIGN_INIT] = (void *)sign_init;
  *list = &ours;
  return 0;
}
