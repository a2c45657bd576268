/* What the SSH server can do, for both builds: a shell, commands, and scp. */

/* The password that the applet `ssh` shows, where there are no keys. */
#define DROPBEAR_SVR_PASSWORD_FILE "/run/ssh/password"
#define MAX_AUTH_TRIES 3
#define AUTH_TIMEOUT 60

/* Nothing passes through it to other machines. */
#define DROPBEAR_SVR_LOCALTCPFWD 0
#define DROPBEAR_SVR_REMOTETCPFWD 0
#define DROPBEAR_SVR_LOCALSTREAMFWD 0
#define DROPBEAR_SVR_REMOTESTREAMFWD 0
#define DROPBEAR_SVR_AGENTFWD 0
#define DROPBEAR_SFTPSERVER 0
#define INETD_MODE 0

/* sntrup761 keeps what was said from those who will have quantum computers, and
   curve25519 is for clients that do not know it. */
#define DROPBEAR_MLKEM768 0
#define DROPBEAR_DH_GROUP14_SHA256 0
#define DROPBEAR_ECDH 0
#define DROPBEAR_USER_ALGO_LIST 0
