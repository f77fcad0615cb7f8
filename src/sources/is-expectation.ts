import { buildMessage, ValidateBy } from 'class-validator';

const LONGEST = 1000;

/** A text, a number, a boolean or null. */
export const IsExpectation = () =>
  ValidateBy({
    name: 'isExpectation',
    validator: {
      validate: (value: unknown) =>
        value === null ||
        typeof value === 'boolean' ||
        (typeof value === 'number' && Number.isFinite(value)) ||
        (typeof value === 'string' && value.length <= LONGEST),
      defaultMessage: buildMessage(
        (each) => `${each}$property must be a text of at most ${LONGEST} characters, a number, a boolean or null`,
      ),
    },
  });
