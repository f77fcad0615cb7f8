import ipaddr from 'ipaddr.js';

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** The part of IPv6 that is given out as global unicast; everything else is for special use, or for nobody yet. */
const GLOBAL_UNICAST = ipaddr.parseCIDR('2000::/3');
/** A platform's own services on addresses that are public by their number. */
const PLATFORM = ['168.63.129.16', '192.0.0.192'];
/** Where clouds hand out credentials to whoever asks. */
const METADATA = ['169.254.169.254', '169.254.170.2', '169.254.170.23', '100.100.100.200', 'fd00:ec2::254', 'fd20:ce::254'];

/** An address in the one form that is compared: an IPv4 address inside of an IPv6 one comes out as itself. @throws when it is none */
export function addressOf(text: string): Address {
  const address = ipaddr.parse(text);
  if (address.kind() === 'ipv4') return address;
  const six = address as ipaddr.IPv6;
  // Mapped addresses lead to the IPv4 address itself, and those of NAT64 are how a network without IPv4 reaches one.
  if (six.isIPv4MappedAddress()) return six.toIPv4Address();
  if (six.match(ipaddr.parseCIDR('64:ff9b::/96') as [ipaddr.IPv6, number]))
    return ipaddr.fromByteArray(six.toByteArray().slice(12));
  return six;
}

/** Whether an address may belong to anybody on the internet, and to nothing nearer. */
export function isPublicAddress(address: Address): boolean {
  if (address.range() !== 'unicast' || PLATFORM.includes(address.toString())) return false;
  return address.kind() === 'ipv4' || (address as ipaddr.IPv6).match(GLOBAL_UNICAST as [ipaddr.IPv6, number]);
}

/** Whether a cloud hands out credentials at this address. */
export function isMetadataAddress(address: Address): boolean {
  return METADATA.includes(address.toString());
}
