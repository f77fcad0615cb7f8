import type { CapabilitiesDto, DestinationDto } from './destination.dto.js';
import { DEFAULT_DESTINATION, type DestinationKind } from './destination.js';
import type { DestinationRow } from './destinations.repository.js';

/** The answer's fields, each named. */
export function toDestination(row: DestinationRow): DestinationDto {
  return {
    id: row.id,
    name: row.name,
    kind: row.kind as DestinationKind,
    isDefault: row.is_default,
    config: row.config,
    hasSecret: row.sealed_secrets !== null,
    madeBySetting: row.made_by_setting,
    capabilities: row.capabilities as CapabilitiesDto | null,
    testedAt: row.tested_at?.toISOString() ?? null,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  };
}

/** The local folder, which has no row: it is there from the first start. @param isDefault whether no other one is */
export function localDestination(isDefault: boolean): DestinationDto {
  return {
    id: DEFAULT_DESTINATION,
    name: DEFAULT_DESTINATION,
    kind: 'local',
    isDefault,
    config: { folder: 'DATA_DIR/backups' },
    hasSecret: false,
    madeBySetting: null,
    capabilities: null,
    testedAt: null,
    createdAt: null,
    updatedAt: null,
  };
}
