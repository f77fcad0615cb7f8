import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { addressOf, isMetadataAddress, isPublicAddress } from './public-address.js';

const HOST = /^(\*\.)?(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*$/;

/** What `OUTBOUND_ALLOW` lists: hosts (`*.` before one stands for everything below it), addresses and CIDRs. */
export class OutboundAllow {
  private constructor(
    private readonly hosts: readonly string[],
    private readonly ranges: readonly [ipaddr.IPv4 | ipaddr.IPv6, number][],
  ) {}

  /** @returns the index of each entry that is none of them, beside the list of the others */
  static parse(entries: readonly string[]): { allow: OutboundAllow; refused: number[] } {
    const hosts: string[] = [];
    const ranges: [ipaddr.IPv4 | ipaddr.IPv6, number][] = [];
    const refused: number[] = [];
    entries.forEach((entry, index) => {
      const range = rangeOf(entry);
      if (range) ranges.push(range);
      else if (HOST.test(entry.toLowerCase()) && !/^[\d.]+$/.test(entry)) hosts.push(entry.toLowerCase());
      else refused.push(index);
    });
    return { allow: new OutboundAllow(hosts, ranges), refused };
  }

  /** Whether the host is listed by its name: it may then be anywhere but where credentials are handed out. */
  hasHost(host: string): boolean {
    const name = host.toLowerCase().replace(/\.$/, '');
    return this.hosts.some((listed) => (listed.startsWith('*.') ? name.endsWith(listed.slice(1)) : name === listed));
  }

  /** Whether any address or range is listed: a name may then lead there. */
  get hasRanges(): boolean {
    return this.ranges.length > 0;
  }

  /** Whether the address is in one of the listed ranges; one that hands out credentials has to be listed by itself. */
  hasAddress(text: string): boolean {
    const address = addressOf(text);
    const isMetadata = isMetadataAddress(address);
    return this.ranges.some(([base, bits]) => {
      if (base.kind() !== address.kind()) return false;
      if (isMetadata && bits < (address.kind() === 'ipv4' ? 32 : 128)) return false;
      return (address as ipaddr.IPv4).match([base as ipaddr.IPv4, bits]);
    });
  }

  /** Whether this host may be connected to at this address. */
  permits(host: string, text: string): boolean {
    if (this.hasAddress(text)) return true;
    const address = addressOf(text);
    return isPublicAddress(address) || (this.hasHost(host) && !isMetadataAddress(address));
  }

  /** Whether plain http may be spoken with this host at this address. */
  permitsPlain(host: string, text: string): boolean {
    return this.permits(host, text) && (this.hasHost(host) || this.hasAddress(text));
  }
}

function rangeOf(entry: string): [ipaddr.IPv4 | ipaddr.IPv6, number] | undefined {
  const [address = '', bits, ...more] = entry.split('/');
  if (!isIP(address) || address.includes('%') || more.length > 0) return undefined;
  const parsed = ipaddr.parse(address);
  const most = parsed.kind() === 'ipv4' ? 32 : 128;
  if (bits === undefined) return [parsed, most];
  return /^\d{1,3}$/.test(bits) && Number(bits) <= most ? [parsed, Number(bits)] : undefined;
}
