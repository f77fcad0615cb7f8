import { ApiProperty } from '@nestjs/swagger';
import { IsString, MaxLength } from 'class-validator';
import { SourceRefDto } from '../backups/backup.dto.js';

/** Which two backups to compare. */
export class CompareBackupsDto {
  /** Id of the backup to compare with: the earlier one, as a rule. */
  @IsString()
  @MaxLength(100)
  base!: string;

  /** Id of the backup that is looked at: the later one, as a rule. */
  @IsString()
  @MaxLength(100)
  head!: string;
}

/** One of the two. */
export class ComparedBackupDto {
  id!: string;
  @ApiProperty({ type: SourceRefDto, nullable: true })
  source!: SourceRefDto | null;
  createdAt!: string;
  @ApiProperty({ type: String, nullable: true })
  serverVersion!: string | null;
  tableCount!: number;
  rowCount!: number;
  /** Bytes before compression and encryption. */
  plainBytes!: number;
}

/** A table that is not the same in both. */
export class TableChangeDto {
  schema!: string;
  name!: string;
  /** Rows in base; null when base has no such table. */
  @ApiProperty({ type: Number, nullable: true })
  baseRows!: number | null;
  /** Rows in head; null when head has no such table. */
  @ApiProperty({ type: Number, nullable: true })
  headRows!: number | null;
  /** Rows in head less rows in base. */
  rowDelta!: number;
  @ApiProperty({ type: Number, nullable: true })
  baseBytes!: number | null;
  @ApiProperty({ type: Number, nullable: true })
  headBytes!: number | null;
  /** Bytes of the rows, as COPY writes them, in head less those in base. */
  byteDelta!: number;
}

/** Tables with data, by the SHA-256 of their rows in the order of the dump: the same rows in another order count as changed. */
export class TableDifferencesDto {
  added!: TableChangeDto[];
  removed!: TableChangeDto[];
  changed!: TableChangeDto[];
  /** How many tables are the same, to the byte. */
  unchanged!: number;
}

const CHANGES = ['added', 'removed', 'changed'] as const;

/** An object of the schema that is not the same in both. */
export class SchemaObjectChangeDto {
  @ApiProperty({ enum: CHANGES })
  change!: (typeof CHANGES)[number];
  /** pg_dump's word for it: TABLE, INDEX, CONSTRAINT, FUNCTION, POLICY, TRIGGER, ACL … */
  kind!: string;
  @ApiProperty({ type: String, nullable: true })
  schema!: string | null;
  /** Its name; that of a part begins with the table's. */
  name!: string;
  /** What differs of a changed one: definition, owner, tablespace, access method. */
  aspects!: string[];
}

/** How the schemas differ. */
export class SchemaDifferenceDto {
  objects!: SchemaObjectChangeDto[];
  /** How many objects are the same. */
  unchanged!: number;
  /** The changes as a unified diff of SQL, object by object; passwords in it are taken out. */
  text!: string;
  /** Whether objects were left out of `text`, since it would be too long; `objects` has all. */
  truncated!: boolean;
}

const SCOPES = ['database', 'role', 'extension', 'property'] as const;

/** A setting, an extension or a property of the database that is not the same in both. */
export class SettingChangeDto {
  /** `database`: ALTER DATABASE SET; `role`: ALTER ROLE IN DATABASE SET; `extension`; `property`: server version, encoding, locale. */
  @ApiProperty({ enum: SCOPES })
  scope!: (typeof SCOPES)[number];
  name!: string;
  @ApiProperty({ type: String, nullable: true })
  role!: string | null;
  @ApiProperty({ type: String, nullable: true })
  base!: string | null;
  @ApiProperty({ type: String, nullable: true })
  head!: string | null;
}

/** A statement about roles, memberships or their settings that only one of the two has. */
export class RoleChangeDto {
  @ApiProperty({ enum: ['added', 'removed'] })
  change!: 'added' | 'removed';
  /** As pg_dumpall writes it, without passwords. */
  statement!: string;
}

/** What differs between two backups. */
export class ComparisonDto {
  base!: ComparedBackupDto;
  head!: ComparedBackupDto;
  /** Whether nothing differs at all. */
  equal!: boolean;
  /** Rows of all tables in head less those in base. */
  rowDelta!: number;
  /** Bytes of all tables' rows in head less those in base. */
  byteDelta!: number;
  tables!: TableDifferencesDto;
  /** Null when it can't be told; `notes` says why. */
  @ApiProperty({ type: SchemaDifferenceDto, nullable: true })
  schema!: SchemaDifferenceDto | null;
  /** Null when it can't be told; `notes` says why. */
  @ApiProperty({ type: [SettingChangeDto], nullable: true })
  settings!: SettingChangeDto[] | null;
  /** Null when one of the two holds no roles (component `config`), or when it can't be told. */
  @ApiProperty({ type: [RoleChangeDto], nullable: true })
  roles!: RoleChangeDto[] | null;
  /** What the reader has to know, as sentences. */
  notes!: string[];
}
