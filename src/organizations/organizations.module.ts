import { Module } from '@nestjs/common';
import { MeController } from './me.controller.js';
import { MembersController } from './members.controller.js';
import { MembersRepository } from './members.repository.js';
import { MembersService } from './members.service.js';
import { OrganizationsController } from './organizations.controller.js';
import { OrganizationsRepository } from './organizations.repository.js';
import { OrganizationsService } from './organizations.service.js';

@Module({
  controllers: [MeController, OrganizationsController, MembersController],
  providers: [OrganizationsService, OrganizationsRepository, MembersService, MembersRepository],
})
export class OrganizationsModule {}
