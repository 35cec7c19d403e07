/** Hosts a gateway may listen on. Internal to the kernel. */

/** True for names and addresses that only this machine reaches. `127.example.org` is a name like any other. */
export function isLoopbackHost(host: string): boolean {
  return /^(localhost|::1|\[::1\]|127(\.\d{1,3}){3})$/i.test(host)
}
