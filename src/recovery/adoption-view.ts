import type { AdoptedSourceDto, AdoptionDto, UnreadManifestDto } from './adopt.dto.js';
import type { FoundGroup } from './found-backups.js';

/** What else is worth knowing of what was taken in, as sentences. */
export function notesOn(sources: readonly AdoptedSourceDto[], unread: readonly UnreadManifestDto[]): string[] {
  const without = sources.filter(({ hasCredentials }) => !hasCredentials).map(({ name }) => name);
  return [
    ...(without.length === 0
      ? []
      : [
          `No credentials came with ${without.join(', ')}: give them by PUT /api/sources/:id, or restore to a target of mode url.`,
        ]),
    ...(unread.some(({ code }) => code === 'SIGNATURE_INVALID')
      ? [
          'Some manifests are signed by a key that is not trusted here: send the recovery kit of the server that made them, as "kit".',
        ]
      : []),
  ];
}

/** The answer where there was nothing to take in. */
export function nothingFound(groups: readonly FoundGroup[]): AdoptionDto {
  return {
    installation: null,
    organization: null,
    found: 0,
    adopted: 0,
    known: 0,
    backups: [],
    sources: [],
    unread: [],
    chainGaps: [],
    settings: null,
    notes: groups.length === 0 ? ['There is no backup at the destination that this organization may take in.'] : [],
  };
}
